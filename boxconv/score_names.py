"""The names of the scores of a network. Importing this does not import torch."""

MEANS = {
    "class_iou": "class IoU",
    "category_iou": "category IoU",
    "class_accuracy": "class accuracy",
    "pixel_accuracy": "pixel accuracy",
}
"""The scores that are one number: their names in `ConfusionMatrix.scores` and in files, and those in texts."""
SCORES = (*MEANS, "iou")
"""Names of all scores in `ConfusionMatrix.scores`; "iou" has a number for each class."""
