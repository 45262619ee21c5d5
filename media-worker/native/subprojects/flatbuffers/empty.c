/* The worker's build links an archive of every subproject; this one's code is elsewhere. C wants one declaration. */
typedef int empty_translation_unit;
