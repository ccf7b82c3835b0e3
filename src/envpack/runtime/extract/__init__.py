"""Write a bundle into a folder, the prefix of its destination put in."""
