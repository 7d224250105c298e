"""The documentation site: `make docs` builds it into build/site, every warning an error."""

import os
import sys
from pathlib import Path

# autodoc imports the packages; a backend that starts quickly is enough to read docstrings
os.environ.setdefault("KERAS_BACKEND", "numpy")
os.environ.setdefault("COLUMNS", "100")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tfvit import __version__  # noqa: E402

project = "tfvit and edge"
author = "the tfvit authors"
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_argparse_cli", "sphinx_copybutton"]
exclude_patterns = ["example-report"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r".*")]  # types of signatures in packages whose own pages are not ours; links in pages stay checked

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "code"
highlight_language = "text"  # of usage lines; code blocks name theirs
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"tfvit and edge {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
