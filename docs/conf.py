"""The documentation site: `make docs` builds it from the Markdown files and the docstrings, with warnings as errors.

The source is the repository, not docs/ alone: so links between README, docs/ and test_tipc/ work as they do in a clone,
and docs/search.md does not hide Sphinx's own search page.
"""

from mobilenext.version import __version__

project = "MobileNeXt on PaddlePaddle"
author = "The MobileNeXt on PaddlePaddle authors"
copyright = f"2026, {author}"
version = release = __version__

root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "deploy/*.md", "examples/**.md", "test_tipc/**.md"]
exclude_patterns = [".*", "build", "dist", "log", "results", "runs", "src", "tests"]  # not searched
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"{project} {version}"
html_extra_path = ["site"]  # leads from the top to docs/index.html

myst_heading_anchors = 4  # those that GitHub makes
suppress_warnings = ["myst.header"]  # a level may be left out
default_role = "literal"  # single backquotes in docstrings are code
highlight_language = "none"  # indented blocks are mostly shell

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
napoleon_use_rtype = False


def mark_examples(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Mark an indented block after a paragraph as code, which is what it is in our docstrings."""
    for number in range(len(lines) - 1, 1, -1):
        paragraph = "\n".join(lines[:number]).rstrip().rpartition("\n")[2]
        if lines[number].startswith("    ") and not lines[number - 1] and paragraph and not paragraph.startswith(" "):
            lines[number:number] = ["::", ""]


def setup(app) -> None:
    app.connect("autodoc-process-docstring", mark_examples, priority=400)  # before napoleon
