"""`python -m mfu_doctor` is the command `mfu-doctor`.

`torchrun -m mfu_doctor run train.py` and machines without the script on their PATH start here.
"""

from __future__ import annotations

from mfu_doctor.cli.main import main

if __name__ == "__main__":
    main()
