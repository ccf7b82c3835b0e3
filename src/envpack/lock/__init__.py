"""The lock of an environment: a spec resolved to exact packages, in the file format of rattler and pixi."""
