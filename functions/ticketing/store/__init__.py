"""The table, and nothing else that knows DynamoDB."""
