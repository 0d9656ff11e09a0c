"""Prints what pydantic's genai-prices says about the models of prices.csv: provider,model,input,output in USD per million
tokens, for short requests at the standard rate of the day that the other two sources were read (some prices fall at
night). Called by `cargo xtask prices`."""

import sys
from datetime import datetime, timezone
from decimal import Decimal

from genai_prices import Usage, calc_price

PROVIDERS = {"togetherai": "together", "fireworks-ai": "fireworks", "xai": "x-ai"}

READ_AT = datetime(2026, 7, 2, 12, tzinfo=timezone.utc)

with open(sys.argv[1]) as table:
    for line in table:
        if line.startswith(("#", "provider,")):
            continue
        provider, model = line.split(",")[:2]

        def per_million(**tokens):
            of = PROVIDERS.get(provider, provider)
            price = calc_price(Usage(**tokens), model, provider_id=of, genai_request_timestamp=READ_AT)
            return price.total_price * 1000

        try:
            prices = per_million(input_tokens=1000), per_million(output_tokens=1000)
        except LookupError:
            continue
        print(provider, model, *(f"{price.quantize(Decimal('0.000001')).normalize():f}" for price in prices), sep=",")
