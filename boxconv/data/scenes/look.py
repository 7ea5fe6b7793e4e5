"""The shapes and colours of what drawn road scenes show."""

RGB = tuple[int, int, int]
Part = tuple[str, float, float, float, float, str]
"""Shape ("box" or "ellipse"); left, right, low, high in metres from the middle of the foot; name of the colour."""

WALLS: tuple[RGB, ...] = ((150, 90, 70), (190, 170, 140), (165, 165, 160), (200, 185, 165), (140, 115, 100))
BODIES: tuple[RGB, ...] = (
    (190, 190, 190), (120, 125, 130), (50, 55, 60), (150, 45, 40), (50, 75, 130), (165, 150, 110),
)  # fmt: skip
LEAVES: RGB = (62, 98, 45)
PAINT: dict[str, RGB] = {
    "tyre": (25, 25, 28), "glass": (60, 75, 90), "lamp": (235, 225, 190), "plate": (215, 215, 205),
    "skin": (205, 150, 120), "bark": (85, 65, 50), "iron": (75, 78, 80), "white": (235, 235, 235),
    "red": (200, 30, 35), "blue": (25, 70, 190), "yellow": (240, 200, 30),
}  # fmt: skip

# Painted in this order: later parts cover earlier ones.
VEHICLE: tuple[Part, ...] = (
    ("ellipse", -1.1, 1.1, -0.2, 0.25, "shadow"),
    ("box", -0.85, -0.55, 0.0, 0.4, "tyre"), ("box", 0.55, 0.85, 0.0, 0.4, "tyre"),
    ("ellipse", -0.78, 0.78, 0.2, 1.55, "body"), ("ellipse", -0.66, 0.66, 0.3, 1.42, "glass"),
    ("box", -0.9, 0.9, 0.25, 0.85, "body"), ("box", -0.9, 0.9, 0.25, 0.33, "tyre"),
    ("box", -0.85, -0.58, 0.58, 0.74, "lamp"), ("box", 0.58, 0.85, 0.58, 0.74, "lamp"),
    ("box", -0.28, 0.28, 0.38, 0.52, "plate"),
)  # fmt: skip
PERSON: tuple[Part, ...] = (
    ("ellipse", -0.4, 0.4, -0.1, 0.1, "shadow"),
    ("box", -0.2, -0.03, 0.0, 0.85, "trousers"), ("box", 0.03, 0.2, 0.0, 0.85, "trousers"),
    ("ellipse", -0.29, 0.29, 0.7, 1.55, "coat"), ("ellipse", -0.13, 0.13, 1.44, 1.78, "skin"),
)  # fmt: skip
TREE: tuple[Part, ...] = (
    ("ellipse", -1.6, 1.6, -0.25, 0.25, "shadow"), ("box", -0.13, 0.13, 0.0, 2.6, "bark"),
    ("ellipse", -1.3, 1.3, 2.1, 4.2, "leaves"), ("ellipse", -1.0, 0.9, 3.0, 5.2, "leaves"),
    ("ellipse", -1.0, 0.3, 2.9, 4.1, "sunlit"), ("ellipse", -0.7, 0.4, 3.9, 5.0, "sunlit"),
    ("ellipse", -0.4, 1.05, 2.3, 3.1, "dark"),
)  # fmt: skip
POST: tuple[Part, ...] = (("box", -0.06, 0.06, 0.0, 2.3, "iron"),)
LAMPS: tuple[tuple[Part, ...], ...] = tuple(
    (("box", -0.07, 0.07, 0.0, 5.2, "iron"), ("box", *arm, 5.1, 5.25, "iron"), ("box", *head, 5.0, 5.15, "lamp"))
    for arm, head in (((0.0, 1.1), (0.8, 1.3)), ((-1.1, 0.0), (-1.3, -0.8)))
)
"""Two street lamps: with an arm to the right (for the left pavement), and with an arm to the left."""
SIGNS: tuple[tuple[Part, ...], ...] = (
    (("ellipse", -0.5, 0.5, 2.1, 3.1, "red"), ("ellipse", -0.3, 0.3, 2.3, 2.9, "white")),
    (("ellipse", -0.5, 0.5, 2.1, 3.1, "blue"), ("box", -0.1, 0.1, 2.3, 2.9, "white")),
    (("box", -0.45, 0.45, 2.1, 3.0, "blue"), ("box", -0.3, 0.3, 2.45, 2.65, "white")),
    (("box", -0.45, 0.45, 2.1, 3.0, "yellow"), ("ellipse", -0.2, 0.2, 2.35, 2.75, "tyre")),
)
