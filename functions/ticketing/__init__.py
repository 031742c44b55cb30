"""The ticket sale: rules, purchase flow, catalogue, audit and the DynamoDB table."""
