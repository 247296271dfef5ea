"""Why a network says what it says, and how it is built: heat maps, their check, gradient confusion and diagrams.

``gradcam``: where in the image the score of a class comes from. ``overlay``: that as a picture. ``faithfulness``:
whether it is true. ``confusion``: how far the gradients of different images contradict each other. ``diagram``: the
network drawn from itself.
"""
