"""The web: a folder that runs a bundle in a browser, and the server that takes the browser's reports."""
