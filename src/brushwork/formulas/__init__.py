"""The arithmetic of the metrics: plain functions over numpy arrays, one subject for each file.

    from brushwork.formulas.frechet import frechet_distance
    frechet_distance(features_of_real, features_of_drawn)

Features are (N, d), one row for each picture; nothing here opens a picture, loads a network or draws a global random
number. ``brushwork.metrics`` exports all of it. The plug-ins in ``metrics/`` decide what to feed it with.
"""
