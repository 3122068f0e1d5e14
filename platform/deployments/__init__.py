"""What should be served: deployments, their revisions and traffic, and the publishing of the serving table."""
