<?php
// Lets the webmail answer messages and nothing else. A rule of these pages, not of the account: mail programs send freely.
class reply_only extends rcube_plugin
{
    public $task = 'mail';

    public function init()
    {
        $this->add_hook('message_before_send', [$this, 'refuse_what_answers_nothing']);
        $this->add_hook('render_page', [$this, 'hide_compose']);
    }

    public function refuse_what_answers_nothing($arguments)
    {
        if (empty($arguments['message']->headers()['In-Reply-To'])) {
            $arguments['abort'] = true;
            $arguments['error'] = 'This webmail answers messages only.';
        }
        return $arguments;
    }

    // The button alone: what counts is the refusal.
    public function hide_compose($arguments)
    {
        rcmail::get_instance()->output->add_header('<style>a.compose, #taskmenu .action-buttons { display: none !important }</style>');
        return $arguments;
    }
}
