-- How many requests somebody has pending, however many they have made.
CREATE INDEX requests_pending_of ON requests (requester_id) WHERE state = 'pending';
