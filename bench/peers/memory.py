"""Memory of a contender."""
import re
import resource


def peak_mib():
    """Peak of the resident memory of this process. Linux tells it of the present program alone; ru_maxrss may hold the parent's as well."""
    try:
        with open('/proc/self/status') as status:
            return int(re.search(r'^VmHWM:\s*(\d+) kB$', status.read(), re.M).group(1)) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
