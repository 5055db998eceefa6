from microbatch.producer import Config, start

VALUES = {"a": 1, "b": 2, "d": 4}


def total(batch: list[str]) -> int:  # runs on a worker, once per batch
    return sum(VALUES[letter] for letter in batch)


def show(result: int) -> None:  # runs in the thread that called wait_for_results()
    print("batch total", result)


config = Config(name="letters", batch_processor=total, result_handler=show, frequency=1000, max_size=30)

if __name__ == "__main__":
    with start(config) as mb:
        for letter in "abdabba":
            mb.record_event(letter)
        mb.stop()
        mb.wait_for_results()
