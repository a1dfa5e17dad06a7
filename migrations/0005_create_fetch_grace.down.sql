-- Each service then keeps to its own AQM_FETCH_GRACE.
DROP TABLE fetch_grace;
