"""From a model to an app in one go: the commands one after the other, and what came of them."""
