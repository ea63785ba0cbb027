"""The converter's process: python -m dico_tf.export JOB.json ..."""

import sys

from dico_tf import startup

startup.tensorflow()  # before anything else imports it, for a third of its start

from dico_tf.export.convert import main  # noqa: E402

for job in sys.argv[1:]:
    main(job)
