"""front: all functions behind one address; for a laptop, and for a small installation as one Service."""

from functions import web
from functions.cancel import cancel
from functions.create_job import create_job
from functions.dead_letter import dead_letter
from functions.done import done
from functions.event import event
from functions.heartbeat import heartbeat
from functions.jobs import jobs
from functions.presign import presign
from functions.sweep import sweep
from functions.uploads import uploads

#: a bare ``POST /`` goes to create-job
front = web.dispatcher(heartbeat, event, done, presign, jobs, create_job, cancel, sweep, uploads, dead_letter)
