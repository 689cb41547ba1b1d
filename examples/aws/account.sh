#!/bin/sh
# What the example needs in the account: a role, a group and a user. Against moto: AWS_ENDPOINT_URL=http://127.0.0.1:5555
set -eu
aws iam create-role --role-name deploy --assume-role-policy-document '{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:user/tidegate"},
    "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]
  }]
}' >/dev/null
aws iam create-group --group-name database-admins >/dev/null
aws iam create-user --user-name ana.lee >/dev/null
