"""The sentences that drawn people say, written for this project and rich in sounds."""

TRAIN = tuple(
    line.strip()
    for line in """
    My mother baked a warm plum pie before the big parade.
    Bob and Pam brought a pump to mop up the muddy basement.
    Please put both maps in the box by the blue lamp.
    Five foxes found a very fine vineyard above the river.
    The chef gave Vivian half of the fresh loaf.
    Few of the voices in the valley ever fade.
    Think of three things that both of them thought.
    Father and mother would rather gather feathers than thread.
    They breathe the thin air north of the path.
    She sells shiny shells, and six sisters sew silk sashes.
    The judge chose a large orange chair for the stage.
    Usually the treasure is measured at leisure.
    Lily will follow the yellow lane all along the hill.
    A little bell fell and rolled below the tall ladder.
    Red roses grow around the rural railroad every year.
    We were away while the wind woke the whole world.
    One wise woman wondered where the water went.
    You knew the new musician used a huge ukulele.
    Go and get a good grey coat for the cold cruise.
    King Craig kicked a cork across the kitchen.
    Ten tiny ducks danced down the dusty road at dawn.
    Did Dan tell Ted to meet Tina at the station today?
    Eat these three green peas each evening.
    Fit six big tins in the kitchen sink.
    Ten men left the red tent when the rest were ready.
    The black cat sat flat on the back of the van.
    Far across the dark park, a large star started to spark.
    Hot coffee is not a popular drop in the shop.
    All morning long the tall horse walked on the lawn.
    Look, the cook could put sugar in the good pudding.
    Two blue balloons flew through the cool afternoon.
    Some lucky cousins love running under the sun.
    The nurse heard the first bird turn on the birch.
    Stay away from the grey lake on a rainy day.
    Why do I find the night sky so wide and bright?
    Boys enjoy the noise of coins and toys.
    How now, said the loud brown hound outside the house.
    Old Joe rode home alone over the snowy road.
    Here we are, near the clear pier, with a cheer.
    There was a rare bear on the stairs of the square.
    What a lovely surprise! I never thought you would come.
    Would you mind opening the window? It is warm in here.
    Tomorrow morning, the weather should be mild and mostly dry.
    I would like a table for four people, please.
    The train to the village leaves at seven thirty five.
    How much is the brown bread, and is it fresh?
    Thank you very much for calling. How may I help you?
    Please hold on a moment while I look that up for you.
    Your package will arrive on Wednesday before noon.
    I'm afraid we have sold out of blue umbrellas.
    Press the button, wait for a beep, and speak clearly.
    Turn left at the bridge, then walk past the old mill.
    My favourite film is about a robot who learns to paint.
    Nobody believed the fisherman until he opened the basket.
    In the middle of the room stood an enormous wooden elephant.
    Every Monday the baker whistles the same peculiar tune.
    He promised to finish the puzzle by the end of the month.
    She laughed, waved her arm, and jumped over the puddle.
    Between the mountains, a thousand birds moved like smoke.
    Have you ever seen the moon so big and so yellow?
    Open the map and show me where we should begin.
    Numbers first: one, two, three, four, five, six, seven, eight, nine, ten.
    Eleven, twelve, thirteen, fourteen, fifteen, sixteen, seventeen.
    January, February, March, April, May, and June went by.
    Monday, Tuesday, Wednesday, Thursday, Friday: what a week!
    A B C D E F G, and then H I J K L M N O P.
    Q R S T U V, W X, Y and Z.
    No, no, no. Yes! Well, maybe. Oh, I see.
    Hello, hello! Good morning, and welcome aboard.
    Goodbye, and take care of yourself on the way home.
    Our garden has apples, cherries, onions, beans and thyme.
    The puppy chewed my shoe and hid beneath the sofa.
    Purple paper people built a bumpy bridge of pebbles.
    Mighty mammoths munched on mossy mushrooms in the mist.
    A brave fellow wove a velvet scarf for his wife.
    Nothing is smoother than the feather of a thrush.
    Each child watched the church clock reach the hour.
    Jim just enjoyed a gentle jog around the lodge.
    Six thick thistle sticks stood still in the soil.
    Grab a cup of tea, sit by the fire, and tell me everything.
    Could the pilot see the runway through the fog?
    The violin and the flute play the melody together.
    Put your hand on the rail and mind the gap.
    Every wave that broke on the beach left a line of foam.
    He rubbed his thumb along the smooth edge of the table.
    The museum is open, but the upper floor is closed.
    Warm bread with butter and honey makes me happy.
    We bought fourteen yellow envelopes and a roll of tape.
    The old clock in the hall has stopped again.
    I have never heard a finer voice on the radio.
    If you are ready, we could move the piano now.
    The doctor told him to rest, to drink, and to sleep.
    Swans swim swiftly where the stream is smooth.
    Quick, bring a bucket, the pipe is leaking!
    Who knew that the zoo had two new kangaroos?
    A cheerful voice came over the loudspeaker at noon.
    The farmer's brother drove the tractor to the fair.
    Blue whales are the biggest animals that have ever lived.
    Water boils sooner at the top of a mountain.
    Light from the sun takes eight minutes to reach us.
    The computer answered before I had asked my question.
    Please repeat the last word slowly and loudly.
    My name is on the list, somewhere near the bottom.
    A stranger with a silver beard bowed and smiled.
    It rained for months, and then the rainbow appeared.
    Leave the ferry boat before the final bell.
    Both brothers have to share a bathroom with me.
    Zebras graze lazily in the haze of the oasis.
    Beyond the wall, something purred, hissed, and vanished.
    The children made a paper boat and pushed it off.
    Ah, there you are! I was about to give up.
    Ooh, that is beautiful. May I have one too?
    Mum, may I have some more marmalade?
    Papa bought a pepper pot from a potter in Peru.
    Remember to lock the front door and feed the fish.
    The author wrote a short but moving poem about autumn.
    Rough weather forced the vessel back into the harbour.
    Nine of the engineers agreed, and the tenth shrugged.
    Few know how the dough becomes so soft and light.
    I saw her wave from the window of the yellow tram.
    Hooray for the winner of the wobbly wheelbarrow race!
    The baby yawned, closed his eyes, and fell asleep.
    Violet clouds hovered over five silver domes.
    Move aboard, they said, and we shall be off at once.
    Let me know whether the office is far from the airport.
    Shall we measure the shelf again, just to be sure?
""".strip().splitlines()
)
"""Sentences to learn from."""

HELD_OUT = tuple(
    line.strip()
    for line in """
    Beautiful music filled the empty palace by the sea.
    The postman brought a parcel from my uncle in Bombay.
    Have a look above the oven, the fork might be there.
    Nothing but the truth would bother the other three.
    She wished for a fresh dish of fish and chips.
    Laura rarely allows her parrot to fly around the room.
    We wonder why the quiet owl went away.
    Big yellow jugs of cream are cooling under the bench.
    Fourteen people voted, and only five of them were pleased.
    A cup of cocoa, a good book, and I am perfectly happy.
    Please move the boxes before the van arrives.
    The queen opened the gate and smiled at the crowd.
    How would you get from the tower to the harbour?
    Even the teacher could not believe the answer.
    The snow was deep, but our boots were warm and dry.
    Oh my! Who put a purple bow on the poor pony?
    Thunder rolled over the roofs of the northern town.
    Choose a number between zero and twenty.
    Mabel has a marble, Phoebe has a feather, and Theo has both.
    Sooner or later everyone learns to listen.
    You must be the new neighbour. Welcome to the village!
    All the boats are home, and the lighthouse is lit.
""".strip().splitlines()
)
"""Sentences to judge by, never learnt from."""
