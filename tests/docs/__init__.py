"""The pages of docs/, held to the code and run as written."""
