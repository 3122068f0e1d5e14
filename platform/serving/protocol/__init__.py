"""Requests and answers: the Open Inference Protocol and the plainer forms, to arrays and back."""
