from django.db import models


class Stock(models.Model):
    product = models.CharField(max_length=100, primary_key=True)
    quantity = models.IntegerField()


class Handled(models.Model):
    """A message that was handled. discue may send it again if it got no response in time."""

    key = models.CharField(max_length=64, primary_key=True)
    handled_at = models.DateTimeField(auto_now_add=True)
