"""The stand-in judged by the documents it was written from."""
