"""The proof of correctness: buyers in real processes, a checker and a report.

python -m proof --url https://….execute-api.eu-west-1.amazonaws.com/live --i-know-this-resets-item 1
python -m proof --url https://….execute-api.eu-west-1.amazonaws.com/live --from-logs sale.json

history    what was observed: requests with all attempts, resets, samples, lookups, the audit
facts      a history, sorted: who was told what when, and bounds on what happened
holds      the same for one hold
exports    the rules for exports
checker    history → violations of the guarantees; a pure function
client     one buyer over HTTP: retries with the same key until there is a definite answer
responses  what an HTTP response means
admin      inventory, reset, audit and export, signed with SigV4
processes  the processes of buyers; each runs `worker`
scenarios  the ten tests and their checks
runner     runs one test, from the reset to the verdict
figures    counts and latencies of a sale
caught     mistakes that the checker caught in simulated sales, which a page lists
report     the console output and the JSON report
page       a report as an HTML page; `results_page` fills it, `pictures` draws its plots
judging    judges a sale that is over, by its log and its table
log_lines  the functions' log lines; `log_changes`: what the organiser did, by them; `log_history`:
           the history that they and the table tell
command    options and exit status
"""

EXIT_INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended, as a shell reports it
