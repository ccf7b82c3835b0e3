"""Publishing in releases of GitHub and in packages of GitLab, by their REST interfaces."""
