"""Blind votes of people: pairs of pictures from the same prompts and seeds, a page to vote on, and what the votes say.

    folder = ballot.make(items, cells, Settings(), Path("ballots/first"))   # opaque pictures, order and sides drawn
    serving.serve(serving.Server(folder))                                   # or page.write_bundle(folder, "vote.html")
    told = counting.count(folder, answers.load(folder, ["ann.json"]))       # strengths, rates, agreement, what lacks
    preferring.write(folder, answers.load(folder), Path("pairs"))           # data for --method dpo

A ballot is a folder. ``ballot.json`` is what raters see and ``key.json`` what they must not see: which model drew which
picture. Pictures are named by the hash of their pixels, so that neither a name nor an address tells a side.
"""
