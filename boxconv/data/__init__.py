"""Images and labels: data sets, their classes and files, and the conversion to tensors."""
