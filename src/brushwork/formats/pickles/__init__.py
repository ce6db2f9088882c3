"""Pickled checkpoints, taken apart without unpickling them.

    from brushwork.formats.pickles.parent import convert
    report = convert(Path("model.ckpt"), Path("model.safetensors"))

A pickle is a program: whoever loads it runs it. Here nothing of it is run. ``machine`` walks through its instructions
and notes which function it *would* call with what; the handful of torch's that put a tensor together are understood,
everything else becomes a note and is dropped. No name in the file is ever looked up or imported. ``containers`` finds
the numbers in torch's two kinds of file. ``worker`` does it in a process of its own without torch, without a network,
and with limits on memory, time, and the size of what it writes; ``parent`` starts it.
"""
