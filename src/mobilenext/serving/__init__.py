"""A demo server: images in, classes and heat maps out, over HTTP. Nothing that is uploaded is kept.

A request passes ``headers`` (safe headers, time and count), ``limits`` (is there room?), ``uploads`` (bytes, counted),
``service`` (pixels, off the event loop) and ``batching`` (the network); ``app`` has the routes, ``server`` the socket.
"""
