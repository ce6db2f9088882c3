"""The server: one job engine, three HTTP faces (native, A1111, OpenAI), one studio page.

    brushwork serve                                 # http://127.0.0.1:7860

| module | |
|---|---|
| ``settings`` | what may be asked of the server, and how much of it |
| ``catalogue`` | models, adapters and embeddings by name, never by path |
| ``jobs`` | what a client asks for, and the pictures that this comes to |
| ``controls`` | ControlNets of a request, and those that the worker keeps loaded |
| ``orders`` | what the worker is told of a picture |
| ``places`` | what answers and logs may not tell: folders and the token |
| ``store`` | jobs and pictures in SQLite and files, so that a restart finds them |
| ``line`` | the queue: bounded, fair between clients |
| ``worker``, ``easel`` | the process that loads models and draws |
| ``engine`` | hands pictures to the worker, follows it, starts it again when it dies |
| ``app`` | FastAPI: the guard in front of everything, the faces behind it |
"""
