"""The local stack: API Gateway, Lambda and DynamoDB of the real template on this machine, without Docker and AWS.

For development only: the emulator (MiniStack) checks no signature of the root account and lets anybody reset it, which
is why it listens on the loopback interface alone.
"""
