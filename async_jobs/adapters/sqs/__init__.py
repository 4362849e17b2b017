"""The transport on Amazon SQS: hints in standard queues, one queue for each lane."""
