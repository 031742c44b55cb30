"""The proof of correctness: buyers in real processes, a checker of everything that they were told, and a report.

python -m proof --url https://….execute-api.eu-west-1.amazonaws.com/live --i-know-this-resets-item 1

history    what was seen: requests with every answer, resets, samples of the inventory, lookups, the audit
checker    a history in, the violations of the guarantees out; pure
client     one buyer over HTTP: what each answer means, and when the same key is sent again
admin      inventory, reset and audit, signed with SigV4
crowd      real processes full of buyers, each a `worker`
scenarios  the six tests
conductor  runs one test against a service, start to verdict
report     what a person reads, and the JSON file that a machine reads
"""

EXIT_INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended
