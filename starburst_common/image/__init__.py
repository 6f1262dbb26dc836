"""An environment in, an image that workers run out: described, looked up, built where it is not there."""
