from actscope.cli import run

run()
