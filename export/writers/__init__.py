"""Write a Program as files: the C header, the image, the report."""
