"""The trees that a backup has to bring back whole: the one list the tests go through.

To add a kind of tree, write a function in the `generate_*` module it belongs to.
"""

from tests.fidelity import (
    generate_content,
    generate_links,
    generate_metadata,
    generate_names,
    generate_shapes,
    generate_trees,
    generate_xattrs,
    registry,
)

# Importing a module registers its generators; naming them here says that this is meant.
MODULES = (
    generate_content,
    generate_links,
    generate_metadata,
    generate_names,
    generate_shapes,
    generate_trees,
    generate_xattrs,
)

GENERATORS = registry.registered()
