"""Why a network predicts a class, and how it is built: heat maps and diagrams.

``gradcam``: where in the image the score of a class comes from. ``overlay``: that as a picture. ``diagram``: the
network drawn from itself.
"""
