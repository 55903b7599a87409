"""Runs a user's own Python code over one file, locked away from everything else.

In goes source text that defines `run_query(file_path)` and one file; out come the arrays that it returned.
The code runs in a process of its own below bubblewrap, and nowhere else: no network, no other files, no
further processes, bounded memory, time, threads and output. What comes out is taken for hostile.

    limits       what a script may use
    interpreter  which folders of this Python the sandbox shows
    syscalls     which system calls it refuses
    command      the bubblewrap command line
    available    whether all of this works here, or why not
    stage        a remote file, fetched whole
    inside       the program that runs inside; imports nothing of ours
    process      one run, from its start to its end
    result       arrays out of what the process left
"""
