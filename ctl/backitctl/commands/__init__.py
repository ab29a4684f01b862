"""One file per verb: parse, call the core, render. Each has a `command`; its help is its manual
page.
"""
