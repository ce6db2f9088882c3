"""How a text-to-image model works, shown on one of its own pictures: what `brushwork explain` measures and draws.

    drawn = emergence.draw(model, Request("a red cat", seed=1))     # the usual picture, and what happened on the way
    drawn.frames[3].x0, drawn.attention.maps["cat"], drawn.shapes

Nothing of the model is changed: it is drawn with as always, and listened to.
"""
