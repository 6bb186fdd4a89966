"""The addresses of the server; each module is one part of the interface."""
