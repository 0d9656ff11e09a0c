"""Prints what pydantic's genai-prices says about the models of prices.csv: provider,model,input,output in USD per million
tokens, for short requests at the standard rate. Called by `cargo xtask prices`."""

import sys
from decimal import Decimal

from genai_prices import Usage, calc_price

PROVIDERS = {"togetherai": "together", "fireworks-ai": "fireworks", "xai": "x-ai"}

with open(sys.argv[1]) as table:
    for line in table:
        if line.startswith(("#", "provider,")):
            continue
        provider, model = line.split(",")[:2]

        def per_million(**tokens):
            return calc_price(Usage(**tokens), model, provider_id=PROVIDERS.get(provider, provider)).total_price * 1000

        try:
            prices = per_million(input_tokens=1000), per_million(output_tokens=1000)
        except LookupError:
            continue
        print(provider, model, *(f"{price.quantize(Decimal('0.000001')).normalize():f}" for price in prices), sep=",")
