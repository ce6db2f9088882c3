"""The faces: each module has ``make_router(engine)``; they only translate, the engine does the work."""
