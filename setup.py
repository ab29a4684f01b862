"""Build backit: the shared core and one Python package per program."""

from pathlib import Path

from setuptools import find_packages, setup

# Import name -> the folder it lives in. The import name is the program's name.
ROOTS = {
    "backit": ".",
    "backitd": "daemon",
    "backitctl": "ctl",
    "backitfs": "fuse_mount",
    "backitcloud": "cloud",
}

HERE = Path(__file__).parent

setup(
    name="backit",
    version="0.1",
    description="A box that keeps everyone's backups and can read none of them",
    license="Apache-2.0",
    python_requires=">=3.11",
    install_requires=[
        requirement
        for line in (HERE / "requirements/run.in").read_text(encoding="utf-8").splitlines()
        if (requirement := line.partition("#")[0].strip())
    ],
    package_dir={name: f"{folder}/{name}" for name, folder in ROOTS.items()},
    packages=[
        package
        for name, folder in ROOTS.items()
        for package in find_packages(folder, include=[name, f"{name}.*"])
    ],
    package_data={"": ["py.typed", "*.pyi"]},
    entry_points={
        "console_scripts": [
            "backitd = backitd.__main__:main",
            "backitctl = backitctl.__main__:main",
            "backitfs = backitfs.cli:main",
        ]
    },
)
