"""The benchmarks: what a sale costs, in counts and in ratios that are measured interleaved.

python -m benchmarks

cost           the bill of a sale on AWS, the quotas that it needs, and when to warm up
bill           its arithmetic; `prices` has what AWS charges, and its quotas
cpu            CPU of each outcome, against the bare boto3 call that a purchase needs
startup        the start of each function, against a process with a boto3 client
package        the deployment package
units          store calls, write units and read units of each outcome
traffic        what a request writes into the log, sends and stores
others         our function against other ways to sell tickets on one machine
stack          the local stack against a function on it that does nothing
cases          requests of each outcome to the real functions
servers        the servers of these ways, each with its store
original       the original system, rebuilt, and faster variants of it
lambda_server  functions behind an ASGI adapter, one request at a time
crowd          buyers who all come at once
process        processes that are set up as Lambda sets up a function
transport      answers of DynamoDB for a client that reaches no network
report         a figure, and how it is shown
"""
