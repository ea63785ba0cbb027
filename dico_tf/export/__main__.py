"""Process that converts files: python -m dico_tf.export JOB.json ... (see convert.py)."""

import sys

from dico_tf import startup

startup.tensorflow()  # before its first import: saves a third of the start-up time

from dico_tf.export.convert import main  # noqa: E402

for job in sys.argv[1:]:
    main(job)
