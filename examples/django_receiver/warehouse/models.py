from django.db import models


class Stock(models.Model):
    product = models.CharField(max_length=100, primary_key=True)
    quantity = models.IntegerField()
