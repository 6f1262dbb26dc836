"""What is made in an AWS account before there are runs."""
