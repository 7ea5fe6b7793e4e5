"""Images and labels: data sets, their classes and files, and the tensors made of them."""
