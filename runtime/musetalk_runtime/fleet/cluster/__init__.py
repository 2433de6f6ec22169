"""What runs on Ray: nodes, the actor of a device, the deployment of the front end."""
